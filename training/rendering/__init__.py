"""Sequences of facial expression rendered from a morphable mesh: real motion that everybody may have.

Data flow: ``pack`` makes the mesh's file, ``mesh`` reads it and ``thinning`` thins it; ``expressions`` says which
shapes an emotion moves and ``timeline`` when; ``person`` draws a head and paints it, ``scene`` poses and lights it,
``rasterize`` draws, ``camera`` spoils the picture as a camera does; ``sequences`` makes labelled clips of all that, and
the command (``python -m training.rendering``) writes them.
"""
