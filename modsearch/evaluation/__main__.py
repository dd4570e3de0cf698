"""lm-eval's own command line, with `--model modsearch`.

    python -m modsearch.evaluation run --model modsearch --model_args pretrained=FOLDER --tasks ...

Importing the adapter registers it; lm-eval's parser has no entry point for models.
"""

from modsearch.evaluation.evaluate import main

if __name__ == "__main__":
    main()
