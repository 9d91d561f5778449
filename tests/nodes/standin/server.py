class PromptServer:
    """Records what would be sent to browsers."""

    instance = None

    def __init__(self):
        self.sent, self.texts, self.client_id = [], [], None

    def send_sync(self, event, data, sid=None):
        if event == "flashworld.text":
            self.texts.append((data["text"], data["node"]))
        else:
            self.sent.append((event, data))
