"""The converter of saved workflows, on a workflow with everything it knows; needs no host."""

import pytest
from ui_to_api import to_api

INFO = {
    "Load": {"input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}}},
    "Make": {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "steps": ["INT", {"default": 4}],
                "forced": ["INT", {"forceInput": True}],
            },
            "optional": {"text": ["STRING", {}], "cameras": ["COMFY_AUTOGROW_V3", {}]},
        },
        "input_order": {"required": ["image", "seed", "steps", "forced"], "optional": ["text", "cameras"]},
    },
    "Look": {
        "input": {
            "required": {
                "mode": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "orbit", "inputs": {"required": {"yaw": ["FLOAT", {}]}}},
                            {"key": "look_at", "inputs": {"required": {"x": ["FLOAT", {}], "y": ["FLOAT", {}]}}},
                        ]
                    },
                ],
                "fov": ["FLOAT", {}],
            }
        }
    },
}


def node(id, kind, values=(), links=(), mode=0, outputs=("IMAGE",)):
    """A saved node; ``links`` are (input name, type, link id)."""
    sockets = [{"name": n, "type": t, "link": link} for n, t, link in links]
    outs = [{"name": t, "type": t} for t in outputs]
    return {"id": id, "type": kind, "widgets_values": list(values), "inputs": sockets, "outputs": outs, "mode": mode}


def workflow(*nodes, links=()):
    return {"nodes": list(nodes), "links": [[*link, "IMAGE"] for link in links]}


def test_values_links_reroutes_and_notes() -> None:
    saved = workflow(
        node(1, "Load", ["b.png", "image"]),
        node(2, "Reroute", links=[("", "*", 10)]),
        node(3, "Make", [7, "randomize", 5, "hello"], [("image", "IMAGE", 11), ("cameras.camera0", "CAMERA", 12)]),
        node(4, "Look", ["look_at", 1.0, 2.0, 35.0], outputs=("CAMERA",)),
        node(5, "MarkdownNote", ["read me"]),
        links=[(10, 1, 0, 2, 0), (11, 2, 0, 3, 0), (12, 4, 0, 3, 1)],
    )
    assert to_api(saved, INFO) == {
        "1": {"class_type": "Load", "inputs": {"image": "b.png"}},
        "3": {
            "class_type": "Make",
            "inputs": {"seed": 7, "steps": 5, "text": "hello", "image": ["1", 0], "cameras.camera0": ["4", 0]},
        },
        "4": {"class_type": "Look", "inputs": {"mode": "look_at", "mode.x": 1.0, "mode.y": 2.0, "fov": 35.0}},
    }


def test_primitives_win_over_the_widget_and_bypassed_nodes_pass_on() -> None:
    saved = workflow(
        node(1, "Load", ["a.png"]),
        node(2, "Make", [1, "fixed", 4, ""], [("image", "IMAGE", 10)], mode=4),
        node(3, "PrimitiveNode", [9, "fixed"], outputs=("INT",)),
        node(4, "Make", [1, "fixed", 4, ""], [("image", "IMAGE", 11), ("steps", "INT", 12)]),
        links=[(10, 1, 0, 2, 0), (11, 2, 0, 4, 0), (12, 3, 0, 4, 2)],
    )
    graph = to_api(saved, INFO)
    assert set(graph) == {"1", "4"}
    assert graph["4"]["inputs"]["image"] == ["1", 0] and graph["4"]["inputs"]["steps"] == 9


def test_muted_nodes_leave_their_sockets_empty() -> None:
    saved = workflow(
        node(1, "Load", ["a.png"], mode=2),
        node(2, "Make", [1, "fixed", 4, ""], [("image", "IMAGE", 10)]),
        links=[(10, 1, 0, 2, 0)],
    )
    assert "image" not in to_api(saved, INFO)["2"]["inputs"]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (workflow(node(1, "Gone")), "no node 'Gone'"),
        (workflow(node(1, "Look", ["orbit"])), "no value for mode.yaw"),
        (workflow(node(1, "Look", ["sideways", 1.0])), "cannot be 'sideways'"),
        (workflow(node(1, "Load", ["a.png", "x", 3])), "too many"),
        ({**workflow(), "definitions": {"subgraphs": [{}]}}, "subgraphs"),
    ],
)
def test_what_does_not_fit_is_refused(saved, message) -> None:
    with pytest.raises(ValueError, match=message):
        to_api(saved, INFO)
