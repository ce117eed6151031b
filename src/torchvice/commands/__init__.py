"""What each command does: it joins the rooms below. `cli` parses, calls and prints."""
