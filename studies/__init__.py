"""Studies: measurements that chapters of the book show, and that take too long to repeat in a page.

    python -m studies                              # the list
    python -m studies NAME                         # measures what is missing in data/results/NAME.jsonl
    python -m studies NAME --output ~/mine.jsonl   # the same into a file of one's own
    python -m studies NAME --help                  # what a study can be asked for besides what its chapter shows

A study is a list of cases and a function of a case; `studies.loop` does the rest, the same for all. To add one, write a
module with a `STUDY` and give it a line below. Speed is another matter, measured by ratios within one run: see `benchmarks`.
"""

STUDIES: dict[str, str] = {
    "comparison": "one network after the other with each estimator (chapter 16)",
    "costs": "what a training step costs with each of these estimators (chapter 16)",
    "estimators": "bias, spread and cost of eight gradient estimators (chapter 5)",
    "finite": "how far networks are from their limit while the noise fades (chapter 17)",
    "gradients": "how far each strategy's gradient is from the expected loss's (the chapter on what annealing optimises)",
    "inks": "what the inks cost on made-up house numbers (chapter 12)",
    "integers": "integer networks in four programs, on whole test sets (chapter 15)",
    "intervals": "the four decay intervals on the digits (chapter 9)",
    "mnist": "real digits in one ink and in two (chapter 12)",
    "rivals": "annealing, a plain straight-through estimator and careful rounding on the digits (chapter 0)",
    "runtimes": "integer networks in onnxruntime, beside floats (chapter 15)",
    "standins": "how hard the stand-ins are (the chapter on the data)",
    "stopping": "what stopping the backward pass saves (chapter 14)",
    "zoo": "every variant of the zoo trained on the digits (chapter 4)",
}
"""The studies: a module of this package each, and what it measures."""
