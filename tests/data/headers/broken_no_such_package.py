# expect: 3 offline-bundle-has-no-such-package
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs", "offline-bundle-has-no-such-package"]
# ///

