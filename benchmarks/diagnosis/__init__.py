"""Diagnose, amend, verify: find why a network is wrong from its explanations, and make it right.

The story of a diagnosis, in the order of the modules:

    opening/       open networks, data and facts about images
    subject        the network, with LAP attached
    evidence       one pass over the images: answers, maps, features, properties
    checks/        each looks at the evidence and names suspects, with a null distribution
    intervention   removes, adds or swaps what is suspected, against a matched control
    suite          runs all of it and ranks the findings
    finding        the result as plain data, published as a schema
    output/        findings file, page, JUnit, comparison with an older diagnosis
    amend          repairs a copy of the network: amending/ decides how, repairs/ do it
    verify         judges the repair on held-out images: verifying/
"""
