"""Components by name: built in, of other packages, of plugin files; and their listing."""
