"""What the world does to programs, done to every part of the kit that keeps something.

places     a disk that can fill, become read-only or be unplugged; a clock that can jump
children   the commands under test: started, ended, and what they leave behind
warm       a process that has imported the kit and forks itself for each command
parts      training, checkpoints, sweeps, downloads, recordings, grading: work that ends
services   the server and the class board: work that goes on until somebody stops it
blows      kill -9, a full disk, a stalled network …
trial      one blow against one part, and what is checked afterwards

    python tools/torture --cells training/kill --seed 7    # one trial again
    make torture MINUTES=60 SEED=7                         # all of them, again and again
"""
