"""Sound for phones that have no sound card."""

import math
import struct
import wave


def tone(file, seconds=60, hertz=440):
    """An 8 kHz mono wav file with a tone in it."""
    samples = (int(9000 * math.sin(2 * math.pi * hertz * i / 8000)) for i in range(8000))
    second = b"".join(struct.pack("<h", s) for s in samples)
    with wave.open(str(file), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(second * seconds)
    return file
