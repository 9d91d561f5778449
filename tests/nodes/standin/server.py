class PromptServer:
    """Records what would be sent to browsers."""

    instance = None

    def __init__(self):
        self.sent, self.texts, self.client_id = [], [], None

    def send_sync(self, event, data, sid=None):
        self.sent.append((event, data))

    def send_progress_text(self, text, node_id, sid=None):
        self.texts.append((text, node_id))
