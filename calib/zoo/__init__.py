"""Many models in one command: manifest → jobs → run store → a process for each job → leaderboard."""
