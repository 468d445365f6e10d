"""Builds the embedded model set: face model, synthetic pictures, networks; imports no ROS.

Nothing here runs when faces are fitted. The rig under ``models/embedded`` is enough to make
pictures and to train; only rebuilding the rig itself needs the MakeHuman files.
"""
