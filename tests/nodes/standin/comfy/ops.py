"""Layers that cast their weights to the input when they run, wherever the weights are."""

import torch
import torch.nn.functional as F


def cast_bias_weight(s, input=None, dtype=None, device=None, bias_dtype=None):
    if input is not None:
        dtype, device = dtype or input.dtype, device or input.device
    bias = None if s.bias is None else s.bias.to(device, bias_dtype or dtype)
    return s.weight.to(device, dtype), bias


class CastWeightBiasOp:
    comfy_cast_weights = False
    weight_function = []
    bias_function = []


class manual_cast:
    class Linear(torch.nn.Linear, CastWeightBiasOp):
        comfy_cast_weights = True

        def forward(self, input):
            return F.linear(input, *cast_bias_weight(self, input))

    class Conv3d(torch.nn.Conv3d, CastWeightBiasOp):
        comfy_cast_weights = True

        def forward(self, input):
            return self._conv_forward(input, *cast_bias_weight(self, input))

    class Embedding(torch.nn.Embedding, CastWeightBiasOp):
        comfy_cast_weights = True

        def forward(self, input, out_dtype=None):
            weight, _ = cast_bias_weight(self, device=input.device, dtype=out_dtype)
            return F.embedding(input, weight, self.padding_idx)
