"""Volumes of pods, a class for each kind (registry.py), all behind one protocol (base.py).

    STATE/volumes/<pod uid>/<volume>            what containers mount
    STATE/volumes/<pod uid>/.subpaths/...       parts of volumes that are pinned for one container (sub_path.py)

Objects of these classes keep nothing: what is on disk and mounted is all there is, so a volume outlives the agent.
"""
