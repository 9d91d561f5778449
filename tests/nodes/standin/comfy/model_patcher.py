"""A patcher that moves its model as a whole."""


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model, self.load_device, self.offload_device, self.size = model, load_device, offload_device, size
        self.model.device = offload_device  # fails, as in the host, where a class defines it as read-only
        self.on_device = False

    def model_size(self):
        return sum(t.numel() * t.element_size() for t in self.model.state_dict().values())

    def loaded_size(self):
        return self.model_size() if self.on_device else 0

    def patch_model(self, device_to=None, lowvram_model_memory=0, load_weights=True, force_patch_weights=False):
        self.model.to(device_to)
        self.on_device = True
        return self.model

    def detach(self, unpatch_all=True):
        self.model.to(self.offload_device)
        self.on_device = False
        return self.model
