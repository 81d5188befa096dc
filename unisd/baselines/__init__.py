"""The methods that UniSD is compared with, on TRL's trainers."""
