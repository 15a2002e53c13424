"""Open vocabulary: every pixel labelled by text, without training (RADSeg and RADSeg+, arXiv 2511.19704).

Words go in, a labelled picture comes out, on one frozen image backbone. ``OpenVocabularySegmenter`` in
:mod:`seg_zero.open_vocabulary.segmenter` is the public face; the other modules hold one step of the method each.
"""
