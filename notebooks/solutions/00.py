"""Solution of lesson 00."""

# %% 00-days
answer = break_even.value / 200
kit.check("00-days", answer, break_even=break_even.value)
