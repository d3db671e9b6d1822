package protocol

// Messages are all that is written to a wire or a journal, filled.
func Messages() map[string]any { return messages() }
