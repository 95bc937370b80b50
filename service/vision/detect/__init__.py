"""Face detectors behind one small protocol: gray frame in, faces out, usable from several threads."""

from service.vision.detect.blazeface import BlazeFace, BlazeFaceRunner
from service.vision.detect.face import Detector, Face
from service.vision.detect.haar import Haar
from service.vision.detect.yunet import YuNet

__all__ = ["BlazeFace", "BlazeFaceRunner", "Detector", "Face", "Haar", "YuNet"]
