"""A response's score becomes rewards of its tokens, and several rewards one."""

from assay.credit.mixing import Multiplier as Multiplier
from assay.credit.mixing import capped_mix as capped_mix
from assay.credit.mixing import label_cap as label_cap
from assay.credit.mixing import safe_mix as safe_mix
from assay.credit.redistribution import CreditError as CreditError
from assay.credit.redistribution import attention_credit as attention_credit
from assay.credit.redistribution import redistribute as redistribute
from assay.credit.redistribution import terminal as terminal
from assay.credit.redistribution import uniform as uniform
