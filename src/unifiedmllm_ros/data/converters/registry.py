"""The public sets by name."""

from __future__ import annotations

from unifiedmllm_ros.data.converters.audio_captions import AUDIOCAPS, CLOTHO, WAVCAPS
from unifiedmllm_ros.data.converters.coco_captions import COCO_CAPTIONS
from unifiedmllm_ros.data.converters.davis import DAVIS
from unifiedmllm_ros.data.converters.flickr30k_entities import FLICKR30K_ENTITIES
from unifiedmllm_ros.data.converters.instructpix2pix import INSTRUCTPIX2PIX
from unifiedmllm_ros.data.converters.llava import LLAVA_INSTRUCT, LLAVA_PRETRAIN
from unifiedmllm_ros.data.converters.nsr1k import NSR1K
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.reasonseg import REASONSEG
from unifiedmllm_ros.data.converters.refcoco import REFCOCO, REFCOCO_PLUS, REFCOCOG
from unifiedmllm_ros.data.converters.smartedit import REASON_EDIT, SMARTEDIT
from unifiedmllm_ros.data.converters.video_captions import MSR_VTT, VALLEY, WEBVID

_ALL = (
    LLAVA_PRETRAIN,
    LLAVA_INSTRUCT,
    REFCOCO,
    REFCOCO_PLUS,
    REFCOCOG,
    REASONSEG,
    SMARTEDIT,
    REASON_EDIT,
    INSTRUCTPIX2PIX,
    NSR1K,
    COCO_CAPTIONS,
    FLICKR30K_ENTITIES,
    WAVCAPS,
    AUDIOCAPS,
    CLOTHO,
    WEBVID,
    MSR_VTT,
    VALLEY,
    DAVIS,
)

PUBLIC_SETS: dict[str, PublicSet] = {each.name: each for each in _ALL}
