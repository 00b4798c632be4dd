"""How much damaged Harmony is read rightly: by our parser, through the real engine, and by llama.cpp's own parser."""
