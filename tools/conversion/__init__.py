"""Behind ``tools/convert.py``: what is written for each weight, and how the file is written."""
