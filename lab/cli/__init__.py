"""The mouth: argv in, text and exit code out; one file per noun, imported when its verb is called."""
