"""The camera path editor in a browser, on a stand-in node: pointer, keyboard, undo, and how it looks."""

import json

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def editor(page, site):
    """The page with the editor on a node with the preset orbit."""
    page.goto(f"{site}/tests/web/pages/camera_path.html")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(300)  # the picture
    return page


def keys(page):
    return page.evaluate("keys()")


def get(page, name):
    return page.evaluate("name => get(name)", name)


def press(page, name):
    page.get_by_role("button", name=name).click()


def keyframes(page, count=4):
    """Keyframes in a row along x, looking ahead, as if a workflow had been loaded."""
    lens = {"vertical_fov_degrees": None, "time": None}
    document = {
        "version": 1,
        "keyframes": [{"position": [0.5 * i, 0, 0], "quaternion": [1, 0, 0, 0], **lens} for i in range(count)],
    }
    page.evaluate("text => { set('source', 'keyframes'); set('keyframes', text); }", json.dumps(document))
    page.wait_for_timeout(100)


def plan(page):
    return page.locator(".fwp-view canvas").nth(1)


def place(page, index):
    """Where a keyframe is drawn in the plan, in screen pixels."""
    return page.evaluate(
        """index => {
            const { plan } = editorOf(node), model = editorOf(node).model();
            const [x, y] = plan.placeOf(model, index), box = plan.element.getBoundingClientRect();
            return [box.left + x, box.top + y];
        }""",
        index,
    )


def drag(page, start, by, modifier=None):
    page.mouse.move(*start)
    if modifier:
        page.keyboard.down(modifier)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(start[0] + by[0] * step / 5, start[1] + by[1] * step / 5)
    page.mouse.up()
    if modifier:
        page.keyboard.up(modifier)


def test_a_preset_is_drawn_and_follows_the_nodes_settings(editor, shots):
    first = editor.locator(".fwp-view canvas").nth(1).screenshot()
    editor.screenshot(path=shots / "camera_path_preset.png")
    editor.evaluate("set('amount', 80)")
    editor.wait_for_timeout(100)
    assert editor.locator(".fwp-view canvas").nth(1).screenshot() != first
    editor.evaluate("set('preset', 'dolly_in')")
    assert get(editor, "amount") == 0.5  # the preset's usual amount, not 80 world units
    assert get(editor, "keyframes") == ""  # looking changes nothing
    # A loaded workflow's amount stays, also when its preset is chosen again.
    editor.evaluate(
        """() => {
            for (const item of node.widgets) item.value = { preset: 'pan', amount: 77 }[item.name] ?? item.value;
            node.onConfigure({});
            set('preset', 'pan');
        }"""
    )
    assert get(editor, "amount") == 77


def test_a_preset_becomes_keyframes_and_undo_takes_it_back(editor, shots):
    press(editor, "Make keyframes that follow")
    assert get(editor, "source") == "keyframes" and len(keys(editor)) == 3
    assert editor.evaluate("changes") == ["before", "after"]  # one step for the graph's own undo too
    editor.wait_for_timeout(100)
    editor.screenshot(path=shots / "camera_path_keyframes.png")
    press(editor, "Undo")
    assert get(editor, "source") == "preset" and get(editor, "keyframes") == ""
    press(editor, "Redo")
    assert get(editor, "source") == "keyframes" and len(keys(editor)) == 3


def test_a_point_is_dragged_in_the_plan_as_one_step(editor):
    keyframes(editor)
    before = keys(editor)
    drag(editor, place(editor, 2), (30, -40))
    moved = keys(editor)
    assert moved[2]["position"][0] > before[2]["position"][0]  # right
    assert moved[2]["position"][2] > before[2]["position"][2]  # up in the plan is forward
    assert moved[2]["position"][1] == before[2]["position"][1]
    assert [moved[i] for i in (0, 1, 3)] == [before[i] for i in (0, 1, 3)]
    press(editor, "Undo")
    assert keys(editor) == before


def test_shift_drags_a_point_up_and_a_handle_turns_it(editor):
    keyframes(editor)
    drag(editor, place(editor, 1), (0, -40), "Shift")
    position = keys(editor)[1]["position"]
    assert position[1] < 0 and position[0] == 0.5 and position[2] == 0  # y points down
    x, y = place(editor, 1)
    drag(editor, (x, y - 34), (40, 34))  # the handle, from straight ahead to the right
    w, turn_x, turn_y, turn_z = keys(editor)[1]["quaternion"]
    assert abs(w - 0.7071) < 0.05 and abs(turn_y - 0.7071) < 0.05 and abs(turn_x) + abs(turn_z) < 1e-6


def test_keyframes_are_added_deleted_and_reordered(editor):
    keyframes(editor)
    card = editor.locator(".fwp-card")
    card.nth(0).click()
    press(editor, "Add a keyframe where the 3D view stands")
    assert len(keys(editor)) == 5 and keys(editor)[1]["position"] != [0.5, 0, 0]
    editor.get_by_role("button", name="Delete the selected").click()
    assert [key["position"][0] for key in keys(editor)] == [0, 0.5, 1, 1.5]
    box = [card.nth(i).bounding_box() for i in (0, 2)]
    start = (box[0]["x"] + 8, box[0]["y"] + 10)
    drag(editor, start, (box[1]["x"] + box[1]["width"] - 2 - start[0], 0))
    assert [key["position"][0] for key in keys(editor)] == [0.5, 1, 0, 1.5]


def test_the_keyboard_alone_is_enough(editor):
    keyframes(editor)
    editor.locator(".fwp-card input").nth(0).focus()
    editor.keyboard.press("ArrowRight")  # the radio buttons' own
    editor.keyboard.press("Alt+ArrowRight")
    assert [key["position"][0] for key in keys(editor)] == [0, 1, 0.5, 1.5]
    editor.keyboard.press("Delete")
    assert [key["position"][0] for key in keys(editor)] == [0, 1, 1.5]
    editor.keyboard.press("Control+z")
    editor.keyboard.press("Control+z")
    assert [key["position"][0] for key in keys(editor)] == [0, 0.5, 1, 1.5]
    editor.keyboard.press("Control+Shift+Z")
    assert [key["position"][0] for key in keys(editor)] == [0, 1, 0.5, 1.5]
    editor.locator(".fwp-keys").nth(1).focus()
    editor.keyboard.press("n")
    editor.keyboard.press("ArrowUp")
    editor.keyboard.press("PageUp")
    editor.keyboard.press(".")
    changed = [key for key in keys(editor) if key["position"][2] > 0]
    assert len(changed) == 1 and changed[0]["position"][1] < 0 and changed[0]["quaternion"][2] > 0
    editor.locator(".fwp-keys").nth(0).focus()
    editor.keyboard.press("w")
    editor.keyboard.press("k")
    assert len(keys(editor)) == 5


def test_keyframes_are_copied_pasted_and_duplicated(editor):
    keyframes(editor)
    editor.locator(".fwp-card").nth(1).click()
    editor.keyboard.press("Control+c")
    editor.locator(".fwp-card").nth(3).click()
    editor.keyboard.press("Control+v")
    assert [key["position"][0] for key in keys(editor)] == [0, 0.5, 1, 1.5, 0.5]
    editor.keyboard.press("Control+d")
    assert [key["position"][0] for key in keys(editor)] == [0, 0.5, 1, 1.5, 0.5, 0.5]
    editor.keyboard.press("Control+x")
    assert len(keys(editor)) == 5
    editor.keyboard.press("Control+z")
    editor.keyboard.press("Control+z")
    editor.keyboard.press("Control+z")
    assert [key["position"][0] for key in keys(editor)] == [0, 0.5, 1, 1.5]
    assert editor.evaluate("changes").count("after") == 6  # three edits, three undone


def test_a_drag_is_one_step_of_the_graphs_undo(editor):
    keyframes(editor)
    editor.evaluate("changes.length = 0")
    start = place(editor, 1)
    editor.mouse.move(*start)
    editor.mouse.down()
    for step in range(1, 6):
        editor.mouse.move(start[0] + 4 * step, start[1] - 3 * step)
        assert editor.evaluate("changes") == []
    editor.mouse.up()
    assert editor.evaluate("changes") == ["before", "after"]
    assert keys(editor)[1]["position"][2] > 0
    assert editor.evaluate("document.activeElement.localName") == "input"  # what hosts leave the keyboard to
    editor.keyboard.press("Control+z")
    assert keys(editor)[1]["position"] == [0.5, 0, 0]


def test_every_control_can_be_reached_and_has_a_name(editor):
    keyframes(editor)
    editor.locator(".fwp-card input").nth(1).check(force=True)
    unnamed = editor.evaluate(
        """[...document.querySelectorAll('.fwp :is(input, select)')]
            .filter((item) => item.tabIndex < 0 || !item.getAttribute('aria-label')).map((item) => item.outerHTML)"""
    )
    assert unnamed == []


def test_fields_change_the_selected_keyframe(editor):
    keyframes(editor)
    editor.locator(".fwp-card").nth(1).click()
    editor.get_by_label("Position forward").fill("2.5")
    editor.get_by_label("Vertical field of view of this").fill("35")
    editor.get_by_label("How time is shared").select_option("times")
    editor.get_by_label("When the camera is here").fill("1.5")
    key = keys(editor)[1]
    assert key["position"] == [0.5, 0, 2.5] and key["vertical_fov_degrees"] == 35 and key["time"] == 1.5
    editor.get_by_label("Vertical field of view of this").fill("")
    assert keys(editor)[1]["vertical_fov_degrees"] is None
    editor.get_by_label("Smooth: a rounded").select_option("linear")
    editor.get_by_label("Loop").check()
    document = json.loads(get(editor, "keyframes"))
    assert (document["spline"], document["timing"], document["loop"]) == ("linear", "times", True)


def test_a_view_from_the_preview_continues_the_path(editor):
    pose = {"position": [1, 0, 2], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 50}
    assert editor.evaluate("pose => addKeyframe(node, pose)", pose)
    assert get(editor, "source") == "keyframes"
    assert len(keys(editor)) == 4  # the orbit's three, then the view
    assert keys(editor)[3]["position"] == [1, 0, 2] and keys(editor)[3]["vertical_fov_degrees"] == 50


def test_a_bad_document_is_said_and_left_alone(editor):
    bad = '{"version": 1, "keyframes": [{"position": [0, 0]}]}'
    editor.evaluate("text => { set('source', 'keyframes'); set('keyframes', text); }", bad)
    assert "position of keyframe 1" in editor.get_by_role("status").inner_text()
    assert get(editor, "keyframes") == bad


def test_playing_moves_and_looking_through_shows_the_picture(editor, shots):
    press(editor, "See what the camera sees")
    editor.wait_for_timeout(100)
    start = editor.locator(".fwp-view canvas").nth(0).screenshot(path=shots / "camera_path_through.png")
    press(editor, "Play the path")
    editor.wait_for_function("editorOf(node).bar.time > 0.3")
    press(editor, "Pause")
    assert editor.locator(".fwp-view canvas").nth(0).screenshot() != start


def test_a_removed_node_leaves_nothing(editor):
    editor.evaluate("node.onRemoved()")
    editor.wait_for_timeout(400)
    assert editor.evaluate("document.querySelectorAll('.fwp').length") == 0
    assert editor.evaluate("addKeyframe(node, { position: [0, 0, 0], quaternion: [1, 0, 0, 0] })") is False


def test_selecting_moves_nothing_under_the_pointer(editor):
    keyframes(editor)
    assert editor.evaluate("editorOf(node).state.selected") == -1
    before = [plan(editor).bounding_box(), place(editor, 2)]
    editor.mouse.click(*place(editor, 2))
    assert editor.evaluate("editorOf(node).state.selected") == 2
    assert [plan(editor).bounding_box(), place(editor, 2)] == before


def test_anything_may_be_kept_in_the_properties(editor):
    for kept in (
        '"text"',
        "7",
        "[1]",
        '{"plan": 3, "shown": {}}',
        '{"plan": {"center": ["a", {}], "scale": "x"}}',
        "null",
    ):
        editor.evaluate("kept => { node.properties.flashworld_path = JSON.parse(kept); node.onConfigure({}); }", kept)
        editor.evaluate("editorOf(node).redraw()")
        editor.wait_for_timeout(60)  # the page fixture fails on errors
    press(editor, "Show Plan")
    assert editor.evaluate("node.properties.flashworld_path.shown") == "plan"


PALETTES = {  # ComfyUI's own: variables, and the color of a node
    "dark": ({"comfy-input-bg": "#222222", "input-text": "#dddddd", "border-color": "#4e4e4e"}, "#353535"),
    "light": ({"comfy-input-bg": "#c9c9c9", "input-text": "#000000", "border-color": "#e1e1e1"}, "#f5f5f5"),
}
LOWEST_CONTRAST = """() => {
    const parse = (color) => {
        const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under, alpha) => top.slice(0, 3).map((value, i) => alpha * value + (1 - alpha) * under[i]);
    const behind = (item) => {
        let color = [0, 0, 0];
        const line = [];
        for (let at = item; at; at = at.parentElement) line.unshift(at);
        for (const at of line) {
            const own = parse(getComputedStyle(at).backgroundColor);
            if (own[3]) color = over(own, color, own[3]);
        }
        return color;
    };
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let worst = [21, ""];
    for (const item of document.querySelectorAll(".fwp *")) {
        const own = [...item.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        const text = own ? item.textContent : item.localName === "input" && item.type !== "range" ? item.value : "";
        const hidden = !item.offsetParent || item.disabled || item.localName === "style" || item.localName === "option";
        if (!text || hidden || item.classList.contains("fwp-keys") || item.type === "radio") continue;
        const back = behind(item);
        const style = getComputedStyle(item);
        const front = over(parse(style.color), back, Number(style.opacity));
        const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < worst[0]) worst = [contrast, item.outerHTML.slice(0, 120)];
    }
    return worst;
}"""


@pytest.mark.parametrize("palette", PALETTES)
def test_everything_can_be_read_in_both_palettes(editor, shots, palette):
    variables, node = PALETTES[palette]
    editor.evaluate(
        """([variables, color]) => {
            for (const [name, value] of Object.entries(variables)) {
                document.documentElement.style.setProperty(`--${name}`, value);
            }
            document.getElementById("node").style.background = color;
        }""",
        [variables, node],
    )
    states = ["set('source', 'preset')", "set('moves', 'nonsense:')", "set('source', 'keyframes')"]
    for i, state in enumerate(states):
        editor.evaluate(state)
        if i == 2:
            keyframes(editor)
            editor.locator(".fwp-card").nth(1).click()
            press(editor, "See what the camera sees")
        editor.wait_for_timeout(100)
        editor.screenshot(path=shots / f"camera_path_{palette}_{i}.png")
        contrast, what = editor.evaluate(LOWEST_CONTRAST)
        assert contrast >= 4.5, what


def test_controls_are_large_enough_for_fingers(chromium, site, shots):
    context = chromium.new_context(viewport={"width": 900, "height": 900}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site}/tests/web/pages/camera_path.html")
    page.wait_for_selector("body[data-ready]")
    keyframes(page)
    page.wait_for_timeout(200)
    page.screenshot(path=shots / "camera_path_touch.png")
    small = page.evaluate(
        """[...document.querySelectorAll('.fwp input[type=button], .fwp select, .fwp-card')]
            .filter((item) => item.offsetParent && (item.offsetHeight < 40 || item.offsetWidth < 40))
            .map((item) => item.outerHTML)"""
    )
    context.close()
    assert small == []
