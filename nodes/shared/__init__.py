"""What every node uses: checks of its values, inputs that several share, notes to the user."""
