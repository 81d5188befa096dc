"""What teachers are shown: demonstrations, auxiliary contexts, wrong demonstrations."""
