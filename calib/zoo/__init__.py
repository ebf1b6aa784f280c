"""Many models in one command: manifest → jobs → run store → a process for each job → leaderboard.

What belongs here starts, watches and lists whole runs. What a single run does belongs in ``engine``: a worker calls
``calib.quantize`` as any user would. The supervisor never loads OpenVINO.
"""
