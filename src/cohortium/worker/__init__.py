"""The enclave's worker: dials out to the hub, runs tasks on what institutions lend, and gives out
ciphertext.

    folder.py     its files and settings
    join.py       from an invitation to a certificate
    store.py      which runs it began, and how they ended
    admission.py  what has to hold before a run begins
    place.py      which executor runs it
    packages.py   Python packages of tasks
    lending.py    the keys of what one institution lends
    cache.py      ciphertext of what is lent
    inputs.py     what is lent, as inputs of a task
    outputs.py    outputs, encrypted as they leave
    hub_calls.py  the hub, as a run's thread sees it
    run.py        one run, from its keys to its signed outcome
    service.py    the hub's requests
    main.py       the serving process
    measure.py    what a contract has to name
"""
