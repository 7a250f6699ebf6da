"""What imports torch to record: objectives, their gradients, allocation along a path, the recorder."""
