"""Images, audio and video files; free of Ovi's rates and sizes."""
