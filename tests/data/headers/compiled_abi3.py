# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography", "bcrypt", "pynacl"]
# ///
import bcrypt
import nacl
from cryptography.fernet import Fernet

Fernet.generate_key()
