"""The live board of a class: what all guess, then what all laptops measure, on one page.

questions    the questions of the lessons, read from their cells
journal      everything that happens, in a file to which lines are only added
board        the state: students, guesses, measurements, what the projector shows
view         what the page draws: bins, laptops by processor, what explains the differences
rates        how often a student or an address may ask
application  the addresses: join, guess, measured, the teacher's controls, the events for pages
running      `kit class`: folder, code, secret, socket and server
page/        the page for the projector: HTML, a style and a script, without any library
"""
