"""What lessons need beside measurements: claims, sentences, exercises, panels and recordings.

claims.toml      what articles claim, and the rule that decides each claim; rules come first,
                 measurements second
claims           reads the claims and gives verdicts
verdict_table    the verdicts of a lesson in one table
earlier_lessons  what another lesson measured, for a verdict that needs it
conclusions      `kit.conclude`: the sentence that a measurement allows
sentences        finds sentences of direction or cause that no mark covers
exercises        checks answers and gives hints; one file per lesson
panels           a guess with a slider, and a picture that follows its sliders
joining          sends guesses and results to the board of a class: `kit.join`
watching         how a model reads the same images while it learns (lesson 00)
drawing_panel    draw a digit and watch models read it (lesson 01)
ordering_panel   put names in order before you measure them (lesson 08)
chat_panel       type a prompt and watch a model write (lesson 10)
traffic_panel    turn the arrival rate up until a server breaks (lesson 11)
traffic_sliders, live_load, live_run  its settings; the requests it sends; what it draws
pole_panel       balance a pole with answers that come late
lifetime_panel   a slider for each price and rate of a model's life (lesson 14)
drawn_digits     twenty digits as people draw them, stored as strokes
own_digits       asks the reader for twenty digits; without them, the stored ones
drift_sliders    drift the digits and watch what can be seen, and the true score
approaches       train, fine-tune, prompt or only deploy: five answers, rules, a way (lesson 15)
recommendation   what to do, where and why, and its rules as a table (lesson 15)
approach_panel   take a case, or answer five questions; see what is advised (lesson 15)
roads            what each way gets right with how many labels, and what it costs (lesson 15)
quiz             questions at the end of a lesson, with feedback at once; quizzes/ has them
recordings       what a lesson measured on other machines
cpu_load         other programs that keep the machine busy (lesson 03)
"""
