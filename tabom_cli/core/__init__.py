"""The library under the commands: takes values, returns values, never prints and never exits."""
