"""People judge pairs in the page: which pairs, where judgements are kept, and how far annotators agree."""
