"""Functions that torch.compile gets at their first call, once J.on is set; plain until then."""

import torch


class J:  # compiled on demand, plain when J.on is False
    on, all = False, []

    def __init__(self, f):
        self.f, self.c = f, None
        J.all.append(self)

    def __call__(self, *a):
        if not J.on:
            return self.f(*a)
        if self.c is None:
            self.c = torch.compile(self.f, dynamic=False)
        return self.c(*a)
