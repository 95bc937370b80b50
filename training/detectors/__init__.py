"""Face detectors: conversion, comparison, and the geometry of the crop. None of it needs torch."""
