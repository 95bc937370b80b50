"""BigFaceX (Lee & Wong 2020): CK+, BAUM-1s and eNTERFACE'05, rebuilt by whoever holds their licences.

``python -m training.datasets.bigfacex --ck DIR --baum DIR --enterface DIR --out DIR``

A reader a data set (``ck_plus``, ``baum1``, ``enterface``) surveys its folder and gives ``Recording``s; ``cropping``
turns the frames of one into crops; ``parts`` keeps each finished one on disk; ``build`` puts them together as a
``windowset`` and ``report`` counts what came out beside the paper's Table I.
"""
