#include "conf/conf.h"

#include <stdlib.h>
