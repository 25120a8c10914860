"""What joins the parts over several steps: a training run, judging, calibration, recipes."""
