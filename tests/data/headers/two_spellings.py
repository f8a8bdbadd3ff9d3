# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["Ruamel_Yaml", "ruamel.yaml>=0.18", "PyYAML"]
# ///
import ruamel.yaml
import yaml
