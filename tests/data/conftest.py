collect_ignore_glob = ["*"]  # repositories and files that tests copy
