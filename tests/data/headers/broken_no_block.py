# expect: 2 metadata|block
import attr
