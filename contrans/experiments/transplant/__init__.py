"""The main job: read a concept, fit a map, plant, search, compare, report."""
