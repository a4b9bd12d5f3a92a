import math
def build_schedule(kind, lr, steps_per_epoch, max_epoch, warmup_epochs, lr_epochs, lr_gamma, eta_min, t_max):
    w = warmup_epochs * steps_per_epoch
    def f(s):
        if s < w: return lr*(s+1)/w
        return lr*(1+math.cos(math.pi*(s//steps_per_epoch)/max(t_max,max_epoch)))/2
    return f
