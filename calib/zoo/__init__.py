"""Quantize many models in one command: manifest → jobs → run store → one process per job → leaderboard.

Code that starts, watches and lists whole runs belongs here. What a single run does belongs in ``engine``: a worker
calls ``calib.quantize`` as any user would. The supervisor never loads OpenVINO.
"""
