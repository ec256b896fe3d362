"""What a clip starts from: images, given video and audio, spans, a voice."""
