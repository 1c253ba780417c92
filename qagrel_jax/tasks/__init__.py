"""What answers an action with a reward."""
