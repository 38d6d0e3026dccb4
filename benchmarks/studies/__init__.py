"""Studies on top of runs.

Each asks one question. `interp-bench study NAME` runs it, or continues it after a stop.

| study | question | folder of results |
|---|---|---|
| coverage | On which networks of timm does LAP work, and does it leave their logits as they are? | results/coverage |
| retrofit | Can a trained network get explanations without labels and without changing its answers? | given by --out |
| linear-probe | How well do frozen features separate new classes? Makes the network for pets. | given by --out |
| faces | Do landmarks of a face keep the map of an attribute in its place? | results/method/faces.* |
| shortcut | Can a network be told to ignore a shortcut, and at what cost? | results/method/control_* |
| fragility | Does LAP without knowledge follow a shortcut more than its plain twin? | results/method/fragility_* |
| pairs | Does a map show what the network uses, or what stands out in the image? | results/pairs |
| redistribution | What does a decision consist of, on each grid? Draws it. | results/method/redistribution.png |
| xray | Where do maps lie on chest X-rays when only labels of images are known? | results/method/medical* |
| fits | Do the scores of LAP hold for several fits on one frozen network? | tables/ of the last run |
| networks | Whose own map is best: LAP's, a rival's, or that of LAP without a part? | tables/ of the run |
| twins | Does LAP cost accuracy? | results/method/twins.* |
| trained | What do networks of radiographs and faces that others trained depend on? | results/diagnosis/trained* |

`configs/` holds the configurations of the runs behind them, for `interp-bench run --config`.
`interp-bench study page` writes docs/results.md and the README's table from the stored results.
"""
