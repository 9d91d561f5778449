"""Folders below a root the tests set with ``use``."""

import os

folder_names_and_paths = {}
models_dir = input_directory = output_directory = temp_directory = ""


def use(root):
    """Make ``root`` (a path) ComfyUI's base folder, with the usual folders in it."""
    global models_dir, input_directory, output_directory, temp_directory
    models_dir, input_directory, output_directory, temp_directory = (
        os.path.join(root, name) for name in ("models", "input", "output", "temp")
    )
    folder_names_and_paths.clear()
    for name in ("diffusion_models", "vae", "text_encoders"):
        folder_names_and_paths[name] = ([os.path.join(models_dir, name)], {".safetensors", ".ckpt", ".pth"})
    for folder in (models_dir, input_directory, output_directory, temp_directory):
        os.makedirs(folder, exist_ok=True)


def get_output_directory():
    return output_directory


def get_input_directory():
    return input_directory


def get_temp_directory():
    return temp_directory


def get_folder_paths(folder_name):
    return list(folder_names_and_paths[folder_name][0])


def get_filename_list(folder_name):
    folders, extensions = folder_names_and_paths[folder_name]
    found = set()
    for root in folders:
        for folder, _, files in os.walk(root):
            names = (os.path.relpath(os.path.join(folder, name), root) for name in files)
            found.update(n for n in names if os.path.splitext(n)[1].lower() in extensions)
    return sorted(found)


def get_full_path(folder_name, filename):
    filename = os.path.relpath(os.path.join("/", filename), "/")
    for root in folder_names_and_paths[folder_name][0]:
        path = os.path.join(root, filename)
        if os.path.isfile(path):
            return path
    return None


def get_save_image_path(filename_prefix, output_dir, image_width=0, image_height=0):
    subfolder, name = os.path.split(os.path.normpath(filename_prefix))
    folder = os.path.join(output_dir, subfolder)
    if os.path.commonpath((output_dir, os.path.abspath(folder))) != output_dir:
        raise Exception("Saving image outside the output folder is not allowed.")
    os.makedirs(folder, exist_ok=True)
    taken = [f[len(name) + 1 :].split("_")[0] for f in os.listdir(folder) if f.startswith(name + "_")]
    counter = max((int(t) for t in taken if t.isdigit()), default=0) + 1
    return folder, name, counter, subfolder, filename_prefix
