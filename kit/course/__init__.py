"""The course around the experiments: the ledger of claims, exercises, guesses and panels.

claims.toml   what articles say, and the rule that decides it, written before the measurement
claims        reads the ledger and gives verdicts
exercises     checks answers and gives hints; one file per lesson
panels        a guess with a slider; a picture that follows its sliders
drawing       lesson 01's canvas
"""
