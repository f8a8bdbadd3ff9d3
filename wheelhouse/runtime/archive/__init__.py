"""Reading archives: layout, check, extraction, and the command that unpacks one."""
